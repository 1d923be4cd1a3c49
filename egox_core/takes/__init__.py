"""ROOM takes"""
