"""ROOM depth"""
