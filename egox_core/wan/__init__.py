"""ROOM wan"""
