"""The paper's figures and tables from what runs have written, and a page to read their rollouts in.

Empty on purpose: the command line must not pay for drawing before it has checked its input.
"""
