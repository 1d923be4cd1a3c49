"""ROOM trajectory"""
