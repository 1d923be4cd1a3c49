"""ROOM scene"""
