"""ROOM editor"""
