"""Studies, benchmarks and the publishing of what came out."""
