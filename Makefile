# The commands a person types; each installs a Vulkan driver first where it needs one and there is none.

# auto, gpu, vulkan, metal, dx12 or cpu.
DEVICE ?= auto
SEED ?= 42

.PHONY: demo test bench doctor driver servers

# Watch a policy learn: data, warm start, GRPO, Vision-EKIPL, and a table of the results.
demo: driver
	cargo run --release --locked -- demo --device $(DEVICE) --seed $(SEED)

# All tests; ends with the number that passed and failed.
test:
	.ci/test

# Each kernel checked, then timed against the same computation from Burn's own operations.
bench: driver
	cargo bench --locked

# Adapters, driver, limits, and a self-test of every kernel.
doctor: driver
	cargo run --release --locked -- doctor

# The CPU needs no driver; `auto` takes what there is; any other device cannot do without.
driver:
ifneq ($(DEVICE),cpu)
	.ci/vulkan-driver $(if $(filter auto,$(DEVICE)),optional)
endif

# Two servers of others, for tests/program/real_servers.rs: transformers' own and the litellm proxy.
servers:
	python3 -m venv --system-site-packages target/servers
	target/servers/bin/pip install 'transformers[serving]==5.23.0' torchvision 'litellm[proxy]>=1.80,<1.100'
