//! A system that is a script, for what no real one is needed to show.

use super::{Ask, Double, Reply, System};

type Script = Box<dyn FnMut(&Ask, usize) -> Reply + Send>;

pub(crate) struct Scripted {
    script: Script,
    /// The requests so far.
    pub(crate) asks: Vec<Ask>,
}

impl Scripted {
    /// Answers by `script`, which is told how many requests came before.
    pub(crate) fn run(script: impl FnMut(&Ask, usize) -> Reply + Send + 'static) -> Double<Self> {
        Double::start(Self { script: Box::new(script), asks: Vec::new() })
    }
}

impl System for Scripted {
    fn answer(&mut self, ask: &Ask) -> Reply {
        let reply = (self.script)(ask, self.asks.len());
        self.asks.push(ask.clone());
        reply
    }
}

impl Double<Scripted> {
    pub(crate) fn asks(&self) -> Vec<Ask> {
        self.with(|system| system.asks.clone())
    }
}
