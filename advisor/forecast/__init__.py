"""The end of the planned run, foretold from probes and from the table: loss, metric and time, with 80 % intervals."""
