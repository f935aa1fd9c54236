//! OpenTelemetry: with `--otlp-endpoint` the spans of requests and sockets, with the log lines in them, go to a collector
//! over HTTP. They hold what the log holds, so what is never logged (docs/operating.md) is never in them.
//!
//! A collector that is away holds nothing up: at most 2,048 spans wait for it, and what comes past that is dropped.

use anyhow::Context;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::runtime::Tokio;
use opentelemetry_sdk::trace::SdkTracerProvider;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use std::time::Duration;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

/// A collector answers within this, or what it was sent is lost.
const SENT_WITHIN: Duration = Duration::from_secs(5);
/// What waits when perch stops gets this long.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// Spans on their way to a collector.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Begins to send, from tasks of the runtime in which it is called. `endpoint`: without a path, `/v1/traces` is meant.
    ///
    /// # Errors
    /// When nothing can be sent there.
    pub fn start(endpoint: &url::Url) -> anyhow::Result<Self> {
        let mut endpoint = endpoint.clone();
        if endpoint.path() == "/" {
            endpoint.set_path("/v1/traces");
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint.as_str())
            .with_timeout(SENT_WITHIN)
            .build()
            .context("--otlp-endpoint")?;
        let resource = Resource::builder()
            .with_service_name("perch")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let processor = BatchSpanProcessor::builder(exporter, Tokio).build();
        let provider =
            SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource).build();
        Ok(Self(provider))
    }

    /// What hands spans over.
    #[must_use]
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: tracing::Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("perch"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
    }

    /// Sends what waits. Blocks; not from a task.
    pub fn stop(&self) {
        // That nobody takes it is no reason not to stop.
        let _ = self.0.shutdown_with_timeout(STOP_WITHIN);
    }
}
