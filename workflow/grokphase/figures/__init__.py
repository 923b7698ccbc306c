"""One module per figure; each defines draw(tables) -> matplotlib figure and computes no physics.

A module's name is the figure's name in the configuration and its target in the workflow.
"""
