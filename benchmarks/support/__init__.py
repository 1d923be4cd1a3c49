"""ROOM support"""
