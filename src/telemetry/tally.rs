//! Counting on the request path. Each worker adds to cells of its own, and who reads sums up over
//! the workers. A request counts sixteen times; in cells that all workers share, as those of the
//! metrics' crate are, each is a locked instruction on a cache line that they take from each other.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use prometheus::core::{Describer, Metric, MetricVec, MetricVecBuilder};
use prometheus::proto::{self, LabelPair, MetricType};
use prometheus::{HistogramOpts, Opts};

/// Threads that have cells of their own at one time. Others share one.
const SEATS: usize = 64;

/// Cells that are made at once, when a thread needs one of them.
const CHUNK: usize = 256;

/// Chunks of each thread. What is counted beyond them is shared by all threads.
const CHUNKS: usize = 256;

type Chunk = Box<[AtomicI64; CHUNK]>;

/// What one thread has counted. Its cells have one writer at a time.
#[derive(Debug)]
struct Slab([OnceLock<Chunk>; CHUNKS]);

impl Slab {
    const fn new() -> Self {
        Self([const { OnceLock::new() }; CHUNKS])
    }

    /// A cell; none beyond the last.
    fn cell(&self, at: usize) -> Option<&AtomicI64> {
        let chunk = self.0.get(at / CHUNK)?;
        let chunk = chunk.get_or_init(|| Box::new([const { AtomicI64::new(0) }; CHUNK]));
        chunk.get(at % CHUNK)
    }

    /// A cell that was counted in.
    fn used(&self, at: usize) -> Option<&AtomicI64> {
        self.0.get(at / CHUNK)?.get()?.get(at % CHUNK)
    }
}

static SLABS: [OnceLock<Box<Slab>>; SEATS] = [const { OnceLock::new() }; SEATS];

/// So many of them were ever in use.
static SEATED: AtomicUsize = AtomicUsize::new(0);

/// Which slabs have a thread, and which cells a series.
static SEATING: Mutex<Numbers> = Mutex::new(Numbers::NEW);
static PLACES: Mutex<Numbers> = Mutex::new(Numbers::NEW);

thread_local! {
    static OWN: Cell<Option<&'static Slab>> = const { Cell::new(None) };
}

/// Numbers, of which each is given to one at a time; runs of one size are given anew.
#[derive(Debug)]
struct Numbers {
    next: usize,
    returned: Vec<(usize, usize)>,
}

impl Numbers {
    const NEW: Self = Self { next: 0, returned: Vec::new() };

    /// The first of so many.
    fn take(&mut self, count: usize) -> usize {
        match self.returned.iter().position(|(_, size)| *size == count) {
            Some(at) => self.returned.swap_remove(at).0,
            None => {
                self.next += count;
                self.next - count
            }
        }
    }
}

fn slabs() -> impl Iterator<Item = &'static Slab> {
    SLABS.iter().take(SEATED.load(Relaxed)).filter_map(|slab| slab.get().map(|slab| &**slab))
}

fn numbers(of: &Mutex<Numbers>) -> std::sync::MutexGuard<'_, Numbers> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the thread that takes it cells of its own, for as long as it holds this.
#[derive(Debug)]
pub struct Seat {
    index: usize,
    /// It belongs to the thread.
    _thread: std::marker::PhantomData<*const ()>,
}

impl Seat {
    /// Seats this thread, if there is room; it counts like any other thread otherwise.
    #[must_use]
    pub fn take() -> Self {
        let index = numbers(&SEATING).take(1);
        SEATED.fetch_max((index + 1).min(SEATS), Relaxed);
        OWN.set(SLABS.get(index).map(|slab| &**slab.get_or_init(|| Box::new(Slab::new()))));
        Self { index, _thread: std::marker::PhantomData }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        OWN.set(None);
        numbers(&SEATING).returned.push((self.index, 1));
    }
}

/// Neighbouring cells of every thread, and what all threads share.
#[derive(Debug)]
struct Cells {
    first: usize,
    shared: Box<[AtomicI64]>,
    labels: Vec<LabelPair>,
}

impl Cells {
    fn new<V: AsRef<str>>(
        count: usize,
        of: &impl Describer,
        values: &[V],
    ) -> prometheus::Result<Arc<Self>> {
        let desc = of.describe()?;
        if desc.variable_labels.len() != values.len() {
            let (expect, got) = (desc.variable_labels.len(), values.len());
            return Err(prometheus::Error::InconsistentCardinality { expect, got });
        }
        let mut labels = desc.const_label_pairs;
        labels.extend(desc.variable_labels.into_iter().zip(values).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name);
            pair.set_value(value.as_ref().to_owned());
            pair
        }));
        labels.sort_by(|one, other| one.name().cmp(other.name()));
        let shared = (0..count).map(|_| AtomicI64::new(0)).collect();
        Ok(Arc::new(Self { first: numbers(&PLACES).take(count), shared, labels }))
    }

    /// Adds to one cell, of which `at` is the number among all.
    #[inline]
    fn add(&self, at: usize, delta: i64) {
        match OWN.get().and_then(|slab| slab.cell(at)) {
            // Nobody else writes it.
            Some(cell) => cell.store(cell.load(Relaxed).wrapping_add(delta), Relaxed),
            None => self.add_shared(at - self.first, delta),
        }
    }

    #[cold]
    fn add_shared(&self, index: usize, delta: i64) {
        if let Some(cell) = self.shared.get(index) {
            cell.fetch_add(delta, Relaxed);
        }
    }

    /// The sum over all threads.
    fn sum(&self, index: usize) -> i64 {
        let own = slabs().filter_map(|slab| slab.used(self.first + index));
        let all = own.chain(self.shared.get(index));
        all.fold(0, |sum, cell| sum.wrapping_add(cell.load(Relaxed)))
    }

    fn metric(&self) -> proto::Metric {
        proto::Metric::from_label(self.labels.clone())
    }
}

/// Nobody counts any more: whoever gets the numbers next begins at zero.
impl Drop for Cells {
    fn drop(&mut self) {
        let count = self.shared.len();
        for slab in slabs() {
            for at in self.first..self.first + count {
                if let Some(cell) = slab.used(at) {
                    cell.store(0, Relaxed);
                }
            }
        }
        numbers(&PLACES).returned.push((self.first, count));
    }
}

/// A number that goes up: a counter.
#[derive(Debug, Clone)]
pub struct Count {
    at: usize,
    cells: Arc<Cells>,
}

impl Count {
    /// Counts one.
    #[inline]
    pub fn inc(&self) {
        self.cells.add(self.at, 1);
    }

    /// So many were counted, by any thread.
    #[must_use]
    pub fn get(&self) -> u64 {
        u64::try_from(self.cells.sum(0)).unwrap_or_default()
    }
}

/// A number that goes up and down: a gauge.
#[derive(Debug, Clone)]
pub struct Level(Count);

impl Level {
    /// One more.
    #[inline]
    pub fn inc(&self) {
        self.0.inc();
    }

    /// One less, of those that [`Self::inc`] of any thread has added.
    #[inline]
    pub fn dec(&self) {
        self.0.cells.add(self.0.at, -1);
    }

    /// So many are there now.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.cells.sum(0)
    }
}

/// Durations in buckets: a histogram of seconds.
#[derive(Debug, Clone)]
pub struct Times {
    first: usize,
    /// Upper bounds in nanoseconds.
    bounds: Arc<[u64]>,
    /// The sum in nanoseconds, one for each bound, and one for what is beyond.
    cells: Arc<Cells>,
}

impl Times {
    /// Counts a duration.
    #[inline]
    pub fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.bounds.iter().take_while(|bound| nanos > **bound).count();
        self.cells.add(self.first, i64::try_from(nanos).unwrap_or(i64::MAX));
        self.cells.add(self.first + 1 + bucket, 1);
    }
}

impl Metric for Count {
    #[expect(clippy::cast_precision_loss, reason = "as for any number of Prometheus")]
    fn metric(&self) -> proto::Metric {
        let mut counter = proto::Counter::default();
        counter.set_value(self.get() as f64);
        let mut metric = self.cells.metric();
        metric.set_counter(counter);
        metric
    }
}

impl Metric for Level {
    #[expect(clippy::cast_precision_loss, reason = "as for any number of Prometheus")]
    fn metric(&self) -> proto::Metric {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(self.get() as f64);
        let mut metric = self.0.cells.metric();
        metric.set_gauge(gauge);
        metric
    }
}

impl Metric for Times {
    #[expect(clippy::cast_precision_loss, reason = "as for any number of Prometheus")]
    fn metric(&self) -> proto::Metric {
        let mut count = 0;
        let mut next = |index: usize| {
            count += u64::try_from(self.cells.sum(1 + index)).unwrap_or_default();
            count
        };
        let buckets = self.bounds.iter().enumerate().map(|(index, bound)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_cumulative_count(next(index));
            bucket.set_upper_bound(Duration::from_nanos(*bound).as_secs_f64());
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(next(self.bounds.len()));
        histogram.set_sample_sum(self.cells.sum(0) as f64 / 1e9);
        let mut metric = self.cells.metric();
        metric.set_histogram(histogram);
        metric
    }
}

/// Makes the series of one family.
#[derive(Debug, Clone, Copy)]
pub struct Counting;

/// Makes the series of one family.
#[derive(Debug, Clone, Copy)]
pub struct Levelling;

/// Makes the series of one family.
#[derive(Debug, Clone)]
pub struct Timing(Arc<[u64]>);

/// A family of counters.
pub type CountVec = MetricVec<Counting>;
/// A family of gauges.
pub type LevelVec = MetricVec<Levelling>;
/// A family of histograms.
pub type TimesVec = MetricVec<Timing>;

impl MetricVecBuilder for Counting {
    type M = Count;
    type P = Opts;

    fn build<V: AsRef<str>>(&self, opts: &Opts, values: &[V]) -> prometheus::Result<Count> {
        let cells = Cells::new(1, opts, values)?;
        Ok(Count { at: cells.first, cells })
    }
}

impl MetricVecBuilder for Levelling {
    type M = Level;
    type P = Opts;

    fn build<V: AsRef<str>>(&self, opts: &Opts, values: &[V]) -> prometheus::Result<Level> {
        Counting.build(opts, values).map(Level)
    }
}

impl MetricVecBuilder for Timing {
    type M = Times;
    type P = HistogramOpts;

    fn build<V: AsRef<str>>(
        &self,
        opts: &HistogramOpts,
        values: &[V],
    ) -> prometheus::Result<Times> {
        let cells = Cells::new(self.0.len() + 2, opts, values)?;
        Ok(Times { first: cells.first, bounds: Arc::clone(&self.0), cells })
    }
}

/// Makes a family of counters.
///
/// # Errors
/// A name or label that is none.
pub fn counts(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<CountVec> {
    MetricVec::create(MetricType::COUNTER, Counting, opts(name, help, labels))
}

/// Makes a family of gauges.
///
/// # Errors
/// A name or label that is none.
pub fn levels(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<LevelVec> {
    MetricVec::create(MetricType::GAUGE, Levelling, opts(name, help, labels))
}

/// Makes a family of histograms, of which the buckets are `bounds` in microseconds, ascending.
///
/// # Errors
/// A name or label that is none.
pub fn times(
    name: &str,
    help: &str,
    labels: &[&str],
    bounds: &[u64],
) -> prometheus::Result<TimesVec> {
    let nanos = bounds.iter().map(|micros| micros * 1000).collect();
    let opts = HistogramOpts::from(opts(name, help, labels));
    MetricVec::create(MetricType::HISTOGRAM, Timing(nanos), opts)
}

fn opts(name: &str, help: &str, labels: &[&str]) -> Opts {
    Opts::new(name, help).variable_labels(labels.iter().map(|label| (*label).to_owned()).collect())
}
