for model in THEORY_TABLES:

    rule:
        name:
            rule_name("theory", model)
        output:
            [
                LAYOUT.theory("{experiment}", "{line}", table)
                for table in THEORY_TABLES[model]
            ],
        log:
            LAYOUT.log("theory/{experiment}/{line}"),
        benchmark:
            LAYOUT.benchmark("theory/{experiment}/{line}")
        wildcard_constraints:
            experiment=experiments_of(model),
        # Before figures, which may have to wait for it, and after training, whose priority is above
        # 1: beside the last jobs of training there is time.
        priority: 0.5
        localrule: True
        conda:
            "../envs/conda.yaml"
        resources:
            mem_mb=500,
            runtime=5,
        params:
            specification=lambda w: settings(
                "theory", w.experiment, w.line
            ).model_dump_json(),
            folder=lambda w, output: str(Path(output[0]).parent),
            code=code_digest(f"grokphase.{THEORY_STAGES[model]}"),
        shell:
            "python -m grokphase theory --specification {params.specification:q}"
            " --output-folder {params.folder:q} > {log:q} 2>&1"


rule baseline:
    input:
        LAYOUT.dataset("{experiment}", "{dataset}"),
    output:
        LAYOUT.baseline("{experiment}", "{dataset}"),
    log:
        LAYOUT.log("baseline/{experiment}/{dataset}"),
    benchmark:
        LAYOUT.benchmark("baseline/{experiment}/{dataset}")
    priority: 0.5
    conda:
        "../envs/conda.yaml"
    resources:
        mem_mb=lambda w, attempt: memory_request(baseline_resources(w).memory, attempt),
        runtime=lambda w, attempt: time_request(baseline_resources(w).seconds, attempt),
    params:
        specification=lambda w: settings(
            "baseline", w.experiment, int(w.dataset)
        ).model_dump_json(),
        code=code_digest("grokphase.baseline"),
    shell:
        "python -m grokphase baseline --specification {params.specification:q}"
        " --dataset-file {input:q} --output {output:q} > {log:q} 2>&1"
