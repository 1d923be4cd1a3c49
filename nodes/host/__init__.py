"""What the nodes need of the host, each file for one thing of it: paths, progress, steps of a sampler, VAE, names.

Nothing is imported here: a host that lacks a name loses only what uses it.
"""
