"""What tests and benchmarks share: real servers, contract suites, images, adapters in memory."""
