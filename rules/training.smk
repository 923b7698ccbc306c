def training_code(wildcards):
    """Digest of the code that decides the trajectories of an experiment's networks."""
    one = CONFIG.experiments[wildcards.experiment]
    return code_digest(
        "grokphase.training",
        f"grokphase.models.{one.model}",
        f"grokphase.sampling.kernels.{one.sampler.kernel}",
    )


rule train:
    input:
        lambda w: [LAYOUT.dataset(w.experiment, i) for i in parse_range(w.datasets)],
    output:
        LAYOUT.shard("{experiment}", "{point}", "{datasets}"),
    log:
        LAYOUT.log("train/{experiment}/{point}/{datasets}"),
    benchmark:
        LAYOUT.benchmark("train/{experiment}/{point}/{datasets}")
    threads: 1
    resources:
        mem_mb=1500,
        runtime=60,
    params:
        specification=lambda w: CONFIG.training(w.experiment, w.point).model_dump_json(),
        checkpoints=LAYOUT.checkpoints("{experiment}"),
        files=lambda w, input: ",".join(input),
        code=training_code,
    shell:
        "{PYTHON} -m grokphase train --specification {params.specification:q}"
        " --datasets {wildcards.datasets} --dataset-files {params.files:q} --output {output:q}"
        " --checkpoints {params.checkpoints:q} --code-digest {params.code}"
        " --threads {threads} > {log:q} 2>&1"
