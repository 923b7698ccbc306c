rule train:
    input:
        lambda w: [LAYOUT.dataset(w.experiment, i) for i in parse_range(w.datasets)],
    output:
        LAYOUT.shard("{experiment}", "{point}", "{datasets}"),
    log:
        LAYOUT.log("train/{experiment}/{point}/{datasets}"),
    benchmark:
        LAYOUT.benchmark("train/{experiment}/{point}/{datasets}")
    priority: training_priority
    conda:
        "../envs/conda.yaml"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: memory_request(training_resources(w).memory, attempt),
        runtime=training_minutes,
        gpu=0,
    params:
        specification=lambda w: training_specification(w.experiment, w.point),
        checkpoints=LAYOUT.checkpoints("{experiment}"),
        code=training_code,
    shell:
        "python -m grokphase train --specification {params.specification:q}"
        " --datasets {wildcards.datasets} --dataset-files '{input}' --output {output:q}"
        " --checkpoints {params.checkpoints:q} --code-digest {params.code}"
        " --threads {threads} > {log:q} 2>&1"
