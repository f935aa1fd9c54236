.PHONY: run test test-long help
help: ## Shows this.
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/ -/'
run: ## Builds perch and runs it, with SQLite in its own data folder.
	cargo run --release -- serve
test: ## Installs what the tests need and runs all of them, on SQLite and Postgres.
	tests/install.sh
	tests/postgres.sh sh -c 'cargo nextest --version >/dev/null 2>&1 && exec cargo nextest run || exec cargo test'
test-long: ## 1,000 random plans, the whole recorded history and ten minutes of soak on SQLite (hours).
	tests/install.sh
	cargo build
	cd tests/clients && PERCH_TRACE_ALL=1 node story.mjs ../../target/debug/perch trace
	cd tests/clients && PERCH_PLANS=1000 node story.mjs ../../target/debug/perch random
	cd tests/clients && PERCH_SOAK_SECONDS=600 node story.mjs ../../target/debug/perch soak
