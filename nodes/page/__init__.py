"""ROOM page"""
