//! Places in the code that a test may watch, and where a simulated machine may die.
//!
//! Production never listens, and a probe then costs one load of a flag that never changes.
//! The simulation runs each world on a thread of its own and listens there.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether any thread of this process has ever listened.
static LISTENED: AtomicBool = AtomicBool::new(false);

std::thread_local! {
    static LISTENER: RefCell<Option<Rc<dyn Listener>>> = const { RefCell::new(None) };
}

/// Who is told of probes that the code passes.
pub trait Listener {
    /// A step was taken behind which the machine may die: what comes next must not be needed.
    fn crash_point(&self, name: &'static str);

    /// Something happened that should happen in some runs, or they prove little.
    fn sometimes(&self, name: &'static str);
}

/// Tells `listener` of every probe that this thread passes from now on.
pub fn listen(listener: Option<Rc<dyn Listener>>) {
    LISTENED.store(true, Ordering::Relaxed);
    let replaced = LISTENER.with(|slot| slot.replace(listener));
    drop(replaced);
}

/// The machine may die here.
#[inline]
pub fn crash_point(name: &'static str) {
    tell(|listener| listener.crash_point(name));
}

/// This happens sometimes.
#[inline]
pub fn sometimes(name: &'static str) {
    tell(|listener| listener.sometimes(name));
}

#[inline]
fn tell(what: impl FnOnce(&dyn Listener)) {
    if !LISTENED.load(Ordering::Relaxed) {
        return;
    }
    let listener = LISTENER.with(|slot| slot.borrow().clone());
    if let Some(listener) = listener {
        what(&*listener);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::{Listener, crash_point, listen, sometimes};

    #[derive(Default)]
    struct Heard(RefCell<Vec<&'static str>>);

    impl Listener for Heard {
        fn crash_point(&self, name: &'static str) {
            self.0.borrow_mut().push(name);
        }

        fn sometimes(&self, name: &'static str) {
            self.0.borrow_mut().push(name);
        }
    }

    #[test]
    fn a_probe_is_heard_by_the_listener_of_its_thread_only() {
        let heard = Rc::new(Heard::default());
        listen(Some(heard.clone()));

        crash_point("here");
        #[expect(clippy::disallowed_methods, reason = "another thread is what this is about")]
        let elsewhere = std::thread::spawn(|| sometimes("elsewhere"));
        elsewhere.join().unwrap();
        listen(None);
        sometimes("later");

        assert_eq!(*heard.0.borrow(), ["here"]);
    }
}
