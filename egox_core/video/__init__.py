"""ROOM video"""
