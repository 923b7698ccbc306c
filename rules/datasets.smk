rule dataset:
    output:
        LAYOUT.dataset("{experiment}", "{dataset}"),
    log:
        LAYOUT.log("dataset/{experiment}/{dataset}"),
    benchmark:
        LAYOUT.benchmark("dataset/{experiment}/{dataset}")
    priority: 1
    localrule: True
    conda:
        "../envs/conda.yaml"
    resources:
        mem_mb=500,
        runtime=5,
    params:
        specification=lambda w: settings(
            "dataset", w.experiment, int(w.dataset)
        ).model_dump_json(),
        code=code_digest("grokphase.datasets"),
    shell:
        "python -m grokphase dataset --specification {params.specification:q}"
        " --output {output:q} > {log:q} 2>&1"
