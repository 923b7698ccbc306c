"""Scalar observables that training records, by model; all invariant under neuron symmetries."""

OBSERVABLES: dict[str, tuple[str, ...]] = {
    "teacher_student": (
        "linear_overlap",
        "cubic_overlap",
        "mean_square_overlap",
        "droplet_fraction",
        "weight_norm",
        "train_loss",
        "test_loss",
    ),
    "modular_addition": (
        "discrepancy",
        "droplets_per_neuron",
        "participation",
        "mean_power",
        "train_loss",
        "test_loss",
        "train_accuracy",
        "test_accuracy",
    ),
}

STEIN_VARIATES: dict[str, tuple[str, ...]] = {
    "teacher_student": (
        "linear_overlap",
        "cubic_overlap",
        "mean_square_overlap",
        "readout_norm",
        "weight_norm",
        "output_power",
        "droplet_fraction",
    ),
    "modular_addition": (),
}
"""Trial functions of the Stein variates that training records with every draw, by model
(`stein_variates` of its module)."""
