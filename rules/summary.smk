rule summary:
    input:
        lambda w: [
            LAYOUT.aggregate(w.experiment, point, "chains")
            for point in CONFIG.experiments[w.experiment].points()
        ],
    output:
        table=LAYOUT.summary("{experiment}", "parquet"),
        page=report(
            LAYOUT.summary("{experiment}", "md"),
            category="Convergence",
            caption="../workflow/report/summary.rst",
        ),
    log:
        LAYOUT.log("summary/{experiment}"),
    benchmark:
        LAYOUT.benchmark("summary/{experiment}")
    localrule: True
    conda:
        "../envs/conda.yaml"
    resources:
        mem_mb=500,
        runtime=5,
    params:
        specification=lambda w: settings("summary", w.experiment).model_dump_json(),
        code=code_digest("grokphase.summary"),
    shell:
        "python -m grokphase summary --specification {params.specification:q}"
        " --chains '{input}' --table {output.table:q} --page {output.page:q}"
        " > {log:q} 2>&1"
