"""The Dockerfile as text and values: parser, instructions, expansion, stages. Pure, core."""
