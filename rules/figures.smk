rule figure:
    input:
        figure_inputs,
    output:
        report(
            LAYOUT.figure("{figure}", "pdf"),
            category="Figures",
            caption="../workflow/report/figure.rst",
        ),
        LAYOUT.figure("{figure}", "svg"),
        LAYOUT.figure("{figure}", "png"),
    log:
        LAYOUT.log("figure/{figure}"),
    benchmark:
        LAYOUT.benchmark("figure/{figure}")
    localrule: True
    conda:
        "../envs/conda.yaml"
    resources:
        mem_mb=500,
        runtime=5,
    params:
        specification=lambda w: settings("figure", w.figure).model_dump_json(),
        results=lambda w: f"{LAYOUT.base}/{CONFIG.figures[w.figure].experiment}",
        folder=lambda w, output: str(Path(output[0]).parent),
        code=lambda w: code_digest(
            "grokphase.drawing", f"grokphase.figures.{CONFIG.figure(w.figure).drawing}"
        ),
    shell:
        "python -m grokphase figure --specification {params.specification:q}"
        " --results {params.results:q} --output-folder {params.folder:q} > {log:q} 2>&1"


for name in CONFIG.figures:

    rule:
        name:
            name
        input:
            figure_files(name),
            tables_of_figure(name),
        localrule: True
