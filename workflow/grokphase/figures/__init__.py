"""One module per figure; each defines draw(tables) -> matplotlib figure and computes no physics.

Constants say what it can draw; the configuration reads them without running the module:

    MODEL    the model whose tables it draws
    VARIES   swept parameters of which it draws several values; ("noise",) if absent
    STARTS   kinds of start of which it needs one; () if absent: theory alone is enough

A module's name is the figure's name in the configuration and its target in the workflow.
"""
