"""Networks and their posteriors, one module per model.

A model module defines, for whitened positions of one network,

    load_data           (parameters, dataset) -> what differs between points and datasets
    PARAMETERS_IN_DATA  names of the parameters that only load_data and place read
    target              (parameters, data) -> Target of the kernels
    place               (key, kind, parameters, data, planted) -> where a network is placed
    settle              (key, position, parameters, data) -> where it begins, placed there; traced
    observables         the scalars listed in grokphase.tables.observables
    order_parameters    what the histogram counts, as COUNTING says
    stein_variates      functions of a state whose average over the posterior is zero
    control_variates    statistics of the dataset that are zero in the population
    saved               (start, end, parameters) -> weights kept in the shard, by column
    work_per_gradient   multiply-adds of one gradient
    bytes_per_network   memory of a network on an accelerator

and the module <model>_moves how a kernel moves its networks:

    with_moves              (build, specification, parameters, data, accept_all) -> Kernel
    expected_counts         (specification, parameters) -> the histogram expected of a network
    profiles                (umbrella, parameters) -> Profiles of an ensemble; both may be None
    work_per_step           multiply-adds of a step

Beside these a model has its parameters (grokphase.parameters), its kind of dataset, its experiment
(grokphase.configuration.experiments), its observables and columns (grokphase.tables), and its
stages of aggregation and theory (grokphase.layout).
"""
