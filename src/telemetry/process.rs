//! The `process_*` gauges, read from `/proc` when somebody asks.

use prometheus::{Counter, Gauge, Registry};

use super::metrics::{MetricsError, gauge, register};

/// The metrics that dashboards expect of every process; empty where there is no `/proc`.
#[derive(Debug)]
pub(super) struct Process {
    cpu_seconds: Counter,
    resident_bytes: Gauge,
    virtual_bytes: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    threads: Gauge,
}

impl Process {
    pub(super) fn register(registry: &Registry) -> Result<Self, MetricsError> {
        let start = gauge(
            registry,
            "process_start_time_seconds",
            "Start of the process, as Unix time in seconds.",
        )?;
        start.set(crate::vocab::Wall::now().0);
        Ok(Self {
            cpu_seconds: register(
                registry,
                Counter::new(
                    "process_cpu_seconds_total",
                    "User and system CPU time spent, in seconds.",
                )?,
            )?,
            resident_bytes: gauge(
                registry,
                "process_resident_memory_bytes",
                "Resident memory in bytes.",
            )?,
            virtual_bytes: gauge(
                registry,
                "process_virtual_memory_bytes",
                "Virtual memory in bytes.",
            )?,
            open_fds: gauge(registry, "process_open_fds", "Open file descriptors.")?,
            max_fds: gauge(registry, "process_max_fds", "Most file descriptors that may be open.")?,
            threads: gauge(registry, "process_threads", "Threads of the process.")?,
        })
    }

    /// Reads `/proc` anew.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    pub(super) fn observe(&self) {
        if let Ok(stat) = std::fs::read_to_string("/proc/self/stat") {
            // The command's name may hold spaces; fields are counted from behind its bracket.
            let fields: Vec<&str> =
                stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            let field = |number: usize| {
                fields.get(number - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
            };
            let ticks = rustix::param::clock_ticks_per_second().max(1);
            let spent = (field(14) + field(15)) as f64 / ticks as f64;
            self.cpu_seconds.inc_by((spent - self.cpu_seconds.get()).max(0.0));
            self.threads.set(field(20) as f64);
            self.virtual_bytes.set(field(23) as f64);
            self.resident_bytes.set((field(24) * rustix::param::page_size() as u64) as f64);
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            self.open_fds.set(entries.count() as f64);
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        if let Some(most) = limit.current {
            self.max_fds.set(most as f64);
        }
    }
}
