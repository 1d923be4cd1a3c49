"""ROOM rigs"""
