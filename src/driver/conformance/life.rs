//! The second half of the suite for machines whose power goes: what it does in one process, taken apart, so that one life of the
//! machine prepares an operation and dies in it, and the next one judges what is left.

use super::crash::Case;
use super::*;

/// The suite's hands in one life of the machine.
pub(crate) struct Life(Bench);

impl Life {
    /// `number` is another one in each life.
    pub(crate) fn new(fixture: Fixture, number: u32) -> Self {
        let bench = Bench::new(fixture);
        bench.serial.set(1_000 * number);
        Self(bench)
    }

    /// Makes the volume that no operation is about.
    pub(crate) fn begin(&self) {
        self.0.make_bystander();
    }

    /// The titles of the operations that the driver has.
    pub(crate) fn titles(&self) -> Vec<&'static str> {
        self.0.cases().map(|case| case.title).collect()
    }

    /// Makes what the operation is about.
    pub(crate) fn prepare(&self, title: &str) -> Operation {
        (self.case(title).prepare)(&self.0)
    }

    /// Does it.
    pub(crate) fn run(&self, operation: &Operation) {
        run(&*self.0.driver, operation).expect("the operation succeeds");
    }

    /// Recovers and no more.
    pub(crate) fn recover(&self, operation: &Operation) {
        self.0.driver.recover(operation).expect("recovered");
    }

    /// Recovers, in a life after the one that did it, and sees that it is done or not done, and the former where it was
    /// acknowledged.
    pub(crate) fn judge(&self, title: &str, operation: &Operation, is_done: bool) -> Outcome {
        self.0
            .settle(self.case(title), operation, &*self.0.driver, is_done, title)
    }

    fn case(&self, title: &str) -> &'static Case {
        self.0
            .cases()
            .find(|case| case.title == title)
            .unwrap_or_else(|| panic!("no operation is called {title:?}"))
    }
}
