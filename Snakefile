from snakemake.utils import min_version

min_version("9.27.1")


include: "rules/common.smk"
include: "rules/datasets.smk"
include: "rules/training.smk"
include: "rules/aggregation.smk"
include: "rules/summary.smk"
include: "rules/theory.smk"
include: "rules/figures.smk"


onstart:
    gc.enable()
    for text in CONFIG.warnings(experiments_asked_for()):
        print(f"Warning: {text}", file=sys.stderr)
    check_cluster()
    weigh_jobs_only_when_one_has_ended()


onerror:
    report_full_disk()


rule all:
    default_target: True
    input:
        [figure_files(name) + tables_of_figure(name) for name in CONFIG.figures],
        [
            LAYOUT.summary(name, "md")
            for name, one in CONFIG.experiments.items()
            if one.trains
        ],
    localrule: True


keep_signatures()
