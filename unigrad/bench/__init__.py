"""`unigrad bench`: what a training step costs, part by part, and how that grows.

Empty on purpose: what measures runs in a process of its own, so that its peak memory is its own.
"""
