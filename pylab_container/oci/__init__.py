"""Images, layers and containers as values: references, configs, manifests, tar headers, bundles. Pure, core."""
