"""Parts of the host that the nodes need, one file each: paths, progress, steps of a sampler, VAE,
names.

Nothing is imported here: a host that lacks a name loses only what uses it.
"""
