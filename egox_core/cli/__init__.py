"""ROOM cli"""
