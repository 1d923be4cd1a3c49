"""ROOM texts"""
