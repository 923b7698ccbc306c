"""Networks and their posteriors, one module per model.

A model module defines, for whitened positions of one network,

    load_data           (parameters, dataset) -> what differs between points and datasets
    target              (parameters, data) -> Target of the kernels
    start               (key, kind, parameters, data, planted) -> a starting position
    observables         the scalars listed in grokphase.tables.observables
    order_parameters    what the histogram counts, as COUNTING says
    control_variates    statistics of the dataset that are zero in the population
    saved               (start, end, parameters) -> weights kept in the shard, by column
    work_per_gradient   multiply-adds of one gradient

and nothing else of the training stage depends on the model.
"""
