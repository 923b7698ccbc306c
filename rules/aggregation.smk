def shard_files(wildcards):
    return [
        LAYOUT.shard(wildcards.experiment, wildcards.point, range_name(datasets))
        for datasets in CONFIG.experiments[wildcards.experiment].shards()
    ]


rule aggregate:
    input:
        shard_files,
    output:
        [LAYOUT.aggregate("{experiment}", "{point}", table) for table in AGGREGATES],
    log:
        LAYOUT.log("aggregate/{experiment}/{point}"),
    benchmark:
        LAYOUT.benchmark("aggregate/{experiment}/{point}")
    resources:
        mem_mb=500,
        runtime=5,
    params:
        specification=lambda w: CONFIG.aggregation(
            w.experiment, w.point
        ).model_dump_json(),
        files=lambda w, input: ",".join(input),
        folder=lambda w: str(Path(LAYOUT.aggregate(w.experiment, w.point, "x")).parent),
        code=code_digest("grokphase.aggregation"),
    shell:
        "{PYTHON} -m grokphase aggregate --specification {params.specification:q}"
        " --shards {params.files:q} --output-folder {params.folder:q} > {log:q} 2>&1"
