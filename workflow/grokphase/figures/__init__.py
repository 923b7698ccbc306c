"""One module per figure; each defines draw(tables) -> matplotlib figure and computes no physics.

MODEL names the model whose tables it draws (the configuration reads it without importing).

A module's name is the figure's name in the configuration and its target in the workflow.
"""
