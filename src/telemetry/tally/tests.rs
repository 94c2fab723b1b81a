use super::*;

fn count() -> Count {
    counts("c", "help", &["a"]).unwrap().with_label_values(&["x"])
}

#[test]
fn what_seated_and_other_threads_count_is_summed_up() {
    let counter = count();
    let add = |seated: bool, count: usize| {
        let _seat = seated.then(Seat::take);
        (0..count).for_each(|_| counter.inc());
    };
    std::thread::scope(|scope| {
        let add = &add;
        for count in 1..=SEATS {
            scope.spawn(move || add(true, count));
        }
        scope.spawn(|| add(false, 1000));
    });
    assert_eq!(counter.get(), 1000 + (SEATS * (SEATS + 1) / 2) as u64);
}

#[test]
fn many_seats_at_once_lose_nothing() {
    let counter = count();
    let barrier = std::sync::Barrier::new(SEATS + 8);
    std::thread::scope(|scope| {
        for _ in 0..SEATS + 8 {
            scope.spawn(|| {
                let _seat = Seat::take();
                barrier.wait();
                (0..1000).for_each(|_| counter.inc());
            });
        }
    });
    assert_eq!(counter.get(), (SEATS as u64 + 8) * 1000);
}

#[test]
fn a_level_goes_down_by_whatever_thread() {
    let level = levels("l", "help", &[]).unwrap().with_label_values::<&str>(&[]);
    {
        let _seat = Seat::take();
        (0..3).for_each(|_| level.inc());
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _seat = Seat::take();
            level.dec();
        });
    });
    level.dec();
    assert_eq!(level.get(), 1);
}

#[test]
fn who_gets_the_cells_of_another_begins_at_zero() {
    let _seat = Seat::take();
    for _ in 0..CHUNK * 2 {
        let counter = count();
        assert_eq!(counter.get(), 0);
        counter.inc();
        assert_eq!(counter.get(), 1);
    }
}

#[test]
fn what_has_no_cell_of_its_own_is_counted_too() {
    let _seat = Seat::take();
    let family = counts("c", "help", &["a"]).unwrap();
    let all: Vec<Count> =
        (0..CHUNK * CHUNKS + 10).map(|n| family.with_label_values(&[n.to_string()])).collect();
    let last = all.last().unwrap();
    last.inc();
    last.inc();
    assert_eq!((last.get(), all[0].get()), (2, 0));
}

#[test]
fn a_duration_falls_into_the_first_bucket_that_holds_it() {
    let family = times("t", "help", &["a"], &[1_000, 2_500]).unwrap();
    let times = family.with_label_values(&["x"]);
    for micros in [0, 1_000, 1_001, 2_500, 2_501, 9_000_000] {
        times.observe(Duration::from_micros(micros));
    }
    let metric = times.metric();
    let histogram = metric.get_histogram();
    let buckets: Vec<_> = histogram.get_bucket().iter().collect();
    let seen: Vec<_> = buckets.iter().map(|b| (b.upper_bound(), b.cumulative_count())).collect();
    assert_eq!(seen, [(0.001, 2), (0.0025, 4)]);
    assert_eq!(histogram.get_sample_count(), 6);
    assert!((histogram.get_sample_sum() - 9.007_002).abs() < 1e-9);
    assert_eq!(metric.get_label()[0].value(), "x");
}
