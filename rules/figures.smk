def figure_inputs(wildcards):
    """Aggregates, theory and baseline of the points a figure draws, and nothing else."""
    figure = CONFIG.figures[wildcards.figure]
    one = CONFIG.experiments[figure.experiment]
    files = [
        LAYOUT.aggregate(figure.experiment, point, table)
        for point in one.points(figure.select)
        for table in AGGREGATES
    ]
    files += [
        LAYOUT.theory(figure.experiment, line, table)
        for line in one.slices(figure.select)
        for table in THEORY_TABLES
    ]
    files += [
        LAYOUT.baseline(figure.experiment, dataset)
        for dataset in range(figure.baseline)
    ]
    return files


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
    resources:
        mem_mb=500,
        runtime=5,
    params:
        specification=lambda w: CONFIG.figure(w.figure).model_dump_json(),
        results=lambda w: f"{LAYOUT.base}/{CONFIG.figures[w.figure].experiment}",
        folder=str(Path(LAYOUT.figure("x", "pdf")).parent),
        code=lambda w: code_digest("grokphase.drawing", f"grokphase.figures.{w.figure}"),
    shell:
        "{PYTHON} -m grokphase figure --specification {params.specification:q}"
        " --results {params.results:q} --output-folder {params.folder:q} > {log:q} 2>&1"


for name in CONFIG.figures:

    rule:
        name:
            name
        input:
            figure_files(name),
        localrule: True
