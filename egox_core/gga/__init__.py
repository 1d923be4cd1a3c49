"""ROOM gga"""
