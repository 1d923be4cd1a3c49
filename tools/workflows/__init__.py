"""ROOM workflows"""
