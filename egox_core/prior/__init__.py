"""ROOM prior"""
