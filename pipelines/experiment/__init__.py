"""Students with seeds: trained, judged, tested, written down."""
