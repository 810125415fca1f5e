//! What `cp` does with a source and a destination: docker's table, as a function of what is there.
//!
//! | source | destination | result |
//! |---|---|---|
//! | file | is not there | a file of that name |
//! | file | is not there, with a closing slash | an error |
//! | file | a file | is replaced |
//! | file | a directory | a file in it, under the source's name |
//! | directory | is not there | made, with what is in the source |
//! | directory | a file | an error |
//! | directory | a directory | a directory in it, under the source's name |
//! | directory, closing `/.` | a directory | what is in the source, in it |

/// What is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Anything but a directory.
    File,
    Directory {
        /// Asked for with a closing `/.`: what is in it, without itself.
        contents: bool,
    },
    /// A tar.
    Stream,
}

/// What is at the destination, links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    Missing {
        /// The directory that it would be in is not there either.
        parent: bool,
    },
    File,
    Directory,
    /// A device, a socket or a pipe.
    Special,
}

/// Where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// Into the directory, under the source's name.
    Inside,
    /// In place of the destination.
    Itself,
    /// Into the directory, what is in the source; which is made first if it is not there.
    Contents,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The directory at the destination, or around it, must be there.
    NoDirectory,
    NotADirectory,
    DirectoryOntoFile,
    SpecialFile,
    StreamNeedsDirectory,
}

/// `slash`: the destination was written with a closing slash, and so must be a directory.
pub(super) fn plan(source: Source, destination: Destination, slash: bool) -> Result<Target, Refusal> {
    use {Destination as D, Source as S};
    match (source, destination) {
        (_, D::Special) => Err(Refusal::SpecialFile),
        (S::Stream, D::Directory) => Ok(Target::Contents),
        (S::Stream, D::Missing { .. }) => Err(Refusal::NoDirectory),
        (S::Stream, D::File) => Err(Refusal::StreamNeedsDirectory),
        (_, D::Missing { parent: true }) => Err(Refusal::NoDirectory),
        (S::File, D::Missing { parent: false }) if slash => Err(Refusal::NoDirectory),
        (S::File, D::Missing { parent: false }) => Ok(Target::Itself),
        (S::File, D::File) if slash => Err(Refusal::NotADirectory),
        (S::File, D::File) => Ok(Target::Itself),
        (S::File, D::Directory) => Ok(Target::Inside),
        (S::Directory { .. }, D::Missing { parent: false }) => Ok(Target::Contents),
        (S::Directory { .. }, D::File) => Err(Refusal::DirectoryOntoFile),
        (S::Directory { contents: true }, D::Directory) => Ok(Target::Contents),
        (S::Directory { contents: false }, D::Directory) => Ok(Target::Inside),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_table() {
        use {Destination as D, Source as S};
        let missing = D::Missing { parent: false };
        let (dir, inner) = (S::Directory { contents: false }, S::Directory { contents: true });
        for (source, destination, slash, expected) in [
            (S::File, missing, false, Ok(Target::Itself)),
            (S::File, missing, true, Err(Refusal::NoDirectory)),
            (S::File, D::Missing { parent: true }, false, Err(Refusal::NoDirectory)),
            (S::File, D::File, false, Ok(Target::Itself)),
            (S::File, D::File, true, Err(Refusal::NotADirectory)),
            (S::File, D::Directory, false, Ok(Target::Inside)),
            (S::File, D::Directory, true, Ok(Target::Inside)),
            (S::File, D::Special, false, Err(Refusal::SpecialFile)),
            (dir, missing, false, Ok(Target::Contents)),
            (dir, missing, true, Ok(Target::Contents)),
            (inner, missing, false, Ok(Target::Contents)),
            (dir, D::Missing { parent: true }, true, Err(Refusal::NoDirectory)),
            (dir, D::File, false, Err(Refusal::DirectoryOntoFile)),
            (inner, D::File, false, Err(Refusal::DirectoryOntoFile)),
            (dir, D::Directory, false, Ok(Target::Inside)),
            (dir, D::Directory, true, Ok(Target::Inside)),
            (inner, D::Directory, false, Ok(Target::Contents)),
            (dir, D::Special, false, Err(Refusal::SpecialFile)),
            (S::Stream, D::Directory, false, Ok(Target::Contents)),
            (S::Stream, D::File, false, Err(Refusal::StreamNeedsDirectory)),
            (S::Stream, missing, true, Err(Refusal::NoDirectory)),
        ] {
            assert_eq!(
                plan(source, destination, slash),
                expected,
                "{source:?} {destination:?} {slash}"
            );
        }
    }
}
