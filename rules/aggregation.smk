for model in AGGREGATES:

    rule:
        name:
            rule_name("aggregate", model)
        input:
            shard_files,
        output:
            [
                LAYOUT.aggregate("{experiment}", "{point}", table)
                for table in AGGREGATES[model]
            ],
        log:
            LAYOUT.log("aggregate/{experiment}/{point}"),
        benchmark:
            LAYOUT.benchmark("aggregate/{experiment}/{point}")
        wildcard_constraints:
            experiment=experiments_of(model),
        # Before other points train, whose priority is below 2: an interrupted run has the tables of
        # those that it finished.
        priority: 2
        localrule: True
        conda:
            "../envs/conda.yaml"
        resources:
            mem_mb=500,
            runtime=5,
        params:
            specification=lambda w: settings(
                "aggregation", w.experiment, w.point
            ).model_dump_json(),
            folder=lambda w, output: str(Path(output[0]).parent),
            checkpoints=LAYOUT.checkpoints("{experiment}"),
            code=code_digest(f"grokphase.{AGGREGATION_STAGES[model]}"),
        shell:
            "python -m grokphase aggregate --specification {params.specification:q}"
            " --shards '{input}' --output-folder {params.folder:q}"
            " --checkpoints {params.checkpoints:q} > {log:q} 2>&1"
