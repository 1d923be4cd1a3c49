"""ROOM patch"""
