//! The terminal: entered and left as it was.

use std::{
    env, future,
    io::{self, StdoutLock, Write as _},
    os::fd::OwnedFd,
};

use nix::{
    sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr},
    unistd::{dup, read},
};
use tokio::io::unix::AsyncFd;

use super::picture::{Line, Size, Style};
use crate::net::{watch_descriptor, window_size};

/// Another screen, without a cursor and with lines that are cut.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
/// All of that undone.
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
const INTERRUPT: u8 = 3;

/// How many characters the window has now.
pub(super) fn size() -> Option<Size> {
    let (width, height) = window_size()?;
    Some(Size { width: width.into(), height: height.into() })
}

/// The window while it is ours. It is given back when this is dropped, whatever happened.
#[derive(Debug)]
pub(super) struct Screen {
    coloured: bool,
    before: Option<Termios>,
}

impl Screen {
    pub(super) fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin()).ok();
        // From here on it is restored, also if something of this fails.
        let screen = Self { coloured: env::var_os("NO_COLOR").is_none_or(|set| set.is_empty()), before };
        if let Some(before) = &screen.before {
            let mut raw = before.clone();
            // Keys come at once and are not shown. Ctrl-C is one of them, and Ctrl-Z does nothing: a stopped program would leave the
            // window as it is.
            raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
            for (place, value) in [(SpecialCharacterIndices::VMIN, 1), (SpecialCharacterIndices::VTIME, 0)] {
                if let Some(control) = raw.control_chars.get_mut(place as usize) {
                    *control = value;
                }
            }
            tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
        }
        write(io::stdout().lock(), ENTER)?;
        Ok(screen)
    }

    /// Replaces what is shown.
    pub(super) fn draw(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut text = String::from("\x1b[H");
        for (place, line) in lines.iter().enumerate() {
            let (begin, end) = if self.coloured { paint(line.style) } else { ("", "") };
            // No line is ended after the last one, which would move all of them up.
            text.push_str(if place == 0 { "" } else { "\r\n" });
            text.push_str(&format!("{begin}{}{end}\x1b[K", line.text));
        }
        text.push_str("\x1b[J");
        write(io::stdout().lock(), &text)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nothing more can be done about a terminal that is gone.
        let _ = write(io::stdout().lock(), LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

fn write(mut out: StdoutLock<'_>, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Before and after a line.
const fn paint(style: Style) -> (&'static str, &'static str) {
    const END: &str = "\x1b[0m";
    match style {
        Style::Plain => ("", ""),
        Style::Title => ("\x1b[7m", END),
        Style::Good => ("\x1b[32m", END),
        Style::Bad => ("\x1b[31m", END),
        Style::Dim => ("\x1b[2m", END),
    }
}

/// What is typed.
#[derive(Debug)]
pub(super) struct Keys(AsyncFd<OwnedFd>);

impl Keys {
    /// `None` if there is nothing to type on.
    pub(super) fn open() -> Option<Self> {
        watch_descriptor(dup(io::stdin()).ok()?).ok().map(Self)
    }

    /// Waits for q or Ctrl-C; without keys, for ever.
    pub(super) async fn quit(keys: &mut Option<Self>) {
        while let Some(Self(input)) = keys {
            let Ok(mut ready) = input.readable().await else { break };
            let mut typed = [0; 64];
            let read = read(input.get_ref(), &mut typed);
            ready.clear_ready();
            match read {
                Ok(0) | Err(_) => break,
                Ok(len) if typed.iter().take(len).any(|key| matches!(*key, b'q' | b'Q' | INTERRUPT)) => return,
                Ok(_) => {}
            }
        }
        *keys = None;
        future::pending::<()>().await;
    }
}
