"""ROOM previews"""
