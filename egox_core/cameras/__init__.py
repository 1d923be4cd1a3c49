"""ROOM cameras"""
