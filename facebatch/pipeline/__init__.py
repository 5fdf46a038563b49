"""The only place where Ray is imported: sources, sinks, pools and the wiring between the stages."""
